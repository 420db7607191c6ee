using LoftHpc;
using LoftHpc.Commands;
using LoftHpc.Output;

NativeEnvironment.Prepare();
LauncherTerminal.KeepConsolePlain();
return CommandLine.Run(args);
