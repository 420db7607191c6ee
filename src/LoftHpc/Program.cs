Console.WriteLine("lofthpc");
