LoftHpc.NativeEnvironment.Prepare();
if (args is ["doctor"]) return LoftHpc.Commands.DoctorCommand.Run(Console.Out);
Console.WriteLine("lofthpc");
return 0;
