namespace LoftHpc.Communication;

/// <summary>What communication is for; every call is counted under the purpose that is current.</summary>
public enum CommunicationPurpose
{
    Step,
    Round,
    Distance,
    RunningStatistics,
    Evaluation,
    Save,
    Control,
}

/// <summary>What one rank sent and received for one purpose through one collective.</summary>
/// <param name="Messages">Transfers from this rank to another.</param>
public sealed record CommunicationTotal(
    string Phase, CommunicationPurpose Purpose, string Collective,
    long Calls, long Messages, long BytesSent, long BytesReceived, double Seconds);
