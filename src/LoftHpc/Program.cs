using LoftHpc;
using LoftHpc.Commands;

NativeEnvironment.Prepare();
return CommandLine.Run(args);
