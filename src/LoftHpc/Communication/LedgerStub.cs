// Placeholder until the metering lands: delete this file when adding CommunicationLedger.
namespace LoftHpc.Communication;
#pragma warning disable CA1822
public sealed class CommunicationLedger
{
    public string Phase { get; set; } = "";
    public IReadOnlyList<CommunicationTotal> Totals => [];
    public IDisposable For(CommunicationPurpose purpose) => new Dummy();
    private sealed class Dummy : IDisposable { public void Dispose() { } }
}
