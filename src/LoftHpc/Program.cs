using LoftHpc;
using LoftHpc.Commands;
using LoftHpc.Mpi;
using LoftHpc.Output;

if (ProcessLimits.Problem is string problem)
{
    if (MpiJob.SpeaksForItsHost(LaunchEnvironment.Current)) ProcessLimits.PrintError(problem);
    return ExitCodes.Environment;
}
Signals.Handle(MpiJob.EndOfJob, MpiJob.EndBySignal);
StandardStreams.Secure();
NativeEnvironment.Prepare();
LauncherTerminal.KeepConsolePlain();
return CommandLine.Run(args);
