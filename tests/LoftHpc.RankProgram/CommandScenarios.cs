using LoftHpc.Commands;
using LoftHpc.Communication;
using LoftHpc.Mpi;
using LoftHpc.Output;
using LoftHpc.Stages;

namespace LoftHpc.RankProgram;

/// <summary>Commands of the program.</summary>
public static class CommandScenarios
{
    /// <summary>Arguments: command, config, settings.</summary>
    public static void Command(ICommunicator world, string[] arguments) => Do(arguments).Dispose();

    /// <summary>Does a command, as the program does, and nothing is shown.</summary>
    internal static Session Do(string[] arguments)
    {
        Session session = new(Program.Runtime!, new LaunchOptions(arguments[0], arguments[1], arguments[2..], Verbosity.Quiet));
        Action<Session> command = arguments[0] switch
        {
            "run" => RunCommands.Run,
            "pretrain" => RunCommands.Pretrain,
            "extract" => RunCommands.Extract,
            "retrain" => RunCommands.Retrain,
            "evaluate" => RunCommands.Evaluate,
            string other => throw new ArgumentException(other),
        };
        command(session);
        return session;
    }
}
