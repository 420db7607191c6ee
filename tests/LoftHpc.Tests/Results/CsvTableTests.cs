using System.Globalization;
using LoftHpc.Arithmetic;
using LoftHpc.Communication;
using LoftHpc.Configuration;
using LoftHpc.Results;
using Xunit;

namespace LoftHpc.Tests.Results;

public sealed class CsvTableTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ColumnsAreThoseThatOthersRelyOn()
    {
        Assert.StartsWith("phase,epoch,split,loss,accuracy,learning_rate,images_per_second,seconds", Header<MetricsRow>());
        Assert.StartsWith("step,epoch,layer,filter,norm", Header<FilterNormRow>());
        Assert.StartsWith("step,reference_step,layer,filters,distance,normalized_distance", Header<FilterDistanceRow>());
        Assert.StartsWith("rank,phase,purpose,collective,calls,messages,bytes_sent,bytes_received,seconds", Header<CommunicationRow>());
        Assert.StartsWith("layer,filter,norm,position,kept,score", Header<TicketRow>());
        Assert.StartsWith("method,schedule,ranks,seed,ratio,pretrained_accuracy,pruned_accuracy,retrained_accuracy,samples,flops,bytes,", Header<ComparisonRow>());
        Assert.StartsWith("network,test_accuracy,test_loss,parameters,flops", Header<SummaryRow>());
    }

    [Fact]
    public void TextIsAsDescribed()
    {
        Write(new MetricsRow(TrainingPhase.Pretrain, 1, DataSplit.Test, 0.1, 0.5, 0.1, 1234.5, 2, 2469));
        Assert.Equal("phase,epoch,split,loss,accuracy,learning_rate,images_per_second,seconds,images\npretrain,1,test,0.1,0.5,0.1,1234.5,2,2469\n", Text());
        Write(new CommunicationRow(3, "retrain", CommunicationPurpose.RunningStatistics, "allreduce", 1, 2, 1L << 40, 4, 0.25));
        Assert.EndsWith("\n3,retrain,running-statistics,allreduce,1,2,1099511627776,4,0.25\n", Text());
        Write(new TicketRow("layer1.0.conv1", 0, 1.5, 1, true, 2.25), new TicketRow("layer1.0.conv1", 1, 0.5, 2, false));
        Assert.EndsWith("\nlayer1.0.conv1,0,1.5,1,true,2.25\nlayer1.0.conv1,1,0.5,2,false,\n", Text());
        Write(new FilterDistanceRow(5, 0, "conv1", 1, 0, null));
        Assert.EndsWith("\n5,0,conv1,1,0,\n", Text());
        Write(new SummaryRow(NetworkState.Dense, double.NaN, double.PositiveInfinity, 11_172_170, 1));
        Assert.EndsWith("\ndense,NaN,Infinity,11172170,1,,,,,\n", Text());
    }

    /// <summary>Runs of before the check of arithmetic can still be compared, and their tickets be retrained.</summary>
    [Fact]
    public void A_table_of_an_earlier_version_is_read_and_brought_up_to_date()
    {
        string path = _folder.File("resources.csv");
        const string before = "rank,phase,images,flops,seconds,weight_bytes,gradient_bytes,optimizer_bytes,exchange_bytes,peak_memory_bytes";
        File.WriteAllText(path, $"{before}\n1,pretrain,2,3,4.5,5,6,7,8,9\n");
        CsvTable<ResourcesRow> table = new(path);
        ResourcesRow row = new(1, TrainingPhase.Pretrain, 2, 3, 4.5, 5, 6, 7, 8, 9, ArithmeticRepair.None, 0);
        Assert.Equal(row, Assert.Single(table.Read()));
        table.Remove(other => other.Phase == TrainingPhase.Retrain);
        Assert.Equal([$"{before},repair,repaired_convolutions,data_seconds", "1,pretrain,2,3,4.5,5,6,7,8,9,none,0,0"], File.ReadAllLines(path));
        table.Append(row with { Phase = TrainingPhase.Retrain });
        Assert.Equal(2, table.Read().Count);

        string ticket = _folder.File("ticket.csv");
        File.WriteAllText(ticket, "layer,filter,norm,position,kept\nlayer1.1.conv1,0,1.5,1,true\n");
        Assert.Equal(new TicketRow("layer1.1.conv1", 0, 1.5, 1, true), Assert.Single(new CsvTable<TicketRow>(ticket).Read()));
    }

    [Fact]
    public void EveryTableReadsBackTheSame()
    {
        RoundTrip(new MetricsRow(TrainingPhase.Retrain, 7, DataSplit.Train, 0.1 + 0.2, 1 / 3.0, 1e-300, double.MaxValue, double.Epsilon, long.MaxValue));
        RoundTrip(new FilterNormRow(long.MaxValue, 0.1, "layer4.1.shortcut.0", 511, BitConverter.Int64BitsToDouble(0x3ff123456789abcd)));
        RoundTrip(new FilterDistanceRow(1, 0, "conv1", 64, 8.3, 1.0000000000000002), new FilterDistanceRow(2, 0, "conv1", 1, 0, null));
        RoundTrip(new FilterDistanceRow(1, 0, "conv1", 64, double.NaN, double.NegativeInfinity));
        RoundTrip(Enum.GetValues<CommunicationPurpose>().Select(p => new CommunicationRow(0, "pretrain", p, "allgatherv", 1, 2, 3, 4, 5.5)).ToArray());
        RoundTrip(new TicketRow("conv1", 0, 1, 1, true), new TicketRow("conv1", 1, -0.0, 2, false));
        RoundTrip(Enum.GetValues<ArithmeticRepair>().Select(repair => new ResourcesRow(3, TrainingPhase.Retrain, 1, long.MaxValue, 0.1, 2, 3, 4, 5, 6, repair, 7, 0.25)).ToArray());
        RoundTrip(Enum.GetValues<ComparedMethod>().Select(m => new ComparisonRow(
            m, SampleSchedule.Published, 4, 3, 0.5, 0.1, 0.2, 0.3, 1, 2, 3, 4, 0.1, double.NaN, long.MaxValue, "loft-travel")).ToArray());
        RoundTrip(Enum.GetValues<Verdict>().Select(verdict => new StatisticsRow(
            "ranks=2; pretrain.loft.stages=[2, 3]", "seconds", BetterSide.Lower, 3, 0.1, 0.2, null, 0.3, true, 2, -0.0, null, 1e-9, 0.05, 1, null, 0.005, 0.025, verdict)).ToArray());
        RoundTrip(new SummaryRow(NetworkState.Pruned, 0.1, 2.302585092994046, 1, 2));
    }

    [Fact]
    public void RandomFloatsReadBackBitForBit()
    {
        Random random = new(1);
        FilterNormRow[] rows = [.. Enumerable.Range(0, 2000)
            .Select(i => new FilterNormRow(i, i, "conv1", i, Math.Abs(BitConverter.Int64BitsToDouble(random.NextInt64()))))
            .Where(r => double.IsFinite(r.Norm))];
        Write(rows);
        IReadOnlyList<FilterNormRow> read = new CsvTable<FilterNormRow>(_folder.File("table.csv")).Read();
        Assert.Equal(rows.Select(r => BitConverter.DoubleToInt64Bits(r.Norm)), read.Select(r => BitConverter.DoubleToInt64Bits(r.Norm)));
    }

    [Fact]
    public void CultureDoesNotMatter()
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo culture = (CultureInfo)CultureInfo.InvariantCulture.Clone();
        culture.NumberFormat.NumberDecimalSeparator = ",";
        culture.NumberFormat.NegativeSign = "~";
        CultureInfo.CurrentCulture = culture;
        try
        {
            Write(new FilterNormRow(-1, 0.5, "conv1", 0, 1.5));
            Assert.EndsWith("\n-1,0.5,conv1,0,1.5\n", Text());
            Assert.Equal(1.5, new CsvTable<FilterNormRow>(_folder.File("table.csv")).Read()[0].Norm);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void AppendingWritesOneHeaderAndWholeRows()
    {
        CsvTable<FilterNormRow> table = new(_folder.File("table.csv"));
        table.Append(new FilterNormRow(0, 0, "conv1", 0, 1));
        table.Append([new FilterNormRow(1, 1, "conv1", 0, 2), new FilterNormRow(1, 1, "conv1", 1, 3)]);
        // Another process goes on with the same file.
        new CsvTable<FilterNormRow>(table.Path).Append(new FilterNormRow(2, 2, "conv1", 0, 4));
        Assert.Equal("step,epoch,layer,filter,norm\n0,0,conv1,0,1\n1,1,conv1,0,2\n1,1,conv1,1,3\n2,2,conv1,0,4\n", Text());
        Assert.Equal([0, 1, 1, 2], table.Read().Select(r => r.Step));
    }

    [Fact]
    public void RowsCanBeReadWhileTheTableGrows()
    {
        CsvTable<FilterNormRow> table = new(_folder.File("table.csv"));
        table.Append(new FilterNormRow(0, 0, "conv1", 0, 1));
        using FileStream reader = new(table.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        table.Append(new FilterNormRow(1, 1, "conv1", 0, 1));
        Assert.Equal(2, table.Read().Count);
    }

    [Theory]
    [InlineData("2,2,co")]
    [InlineData("2,2,conv1,0,4")]
    public void ALastLineWithoutAnEndIsNotReadAndIsRemovedByTheNextAppend(string cut)
    {
        CsvTable<FilterNormRow> table = new(_folder.File("table.csv"));
        table.Append(new FilterNormRow(0, 0, "conv1", 0, 1));
        File.AppendAllText(table.Path, cut);
        Assert.Single(table.Read());
        table.Append(new FilterNormRow(3, 3, "conv1", 0, 5));
        Assert.Equal("step,epoch,layer,filter,norm\n0,0,conv1,0,1\n3,3,conv1,0,5\n", Text());
    }

    [Fact]
    public void WritingReplacesAndLeavesNothingBeside()
    {
        Write(new TicketRow("conv1", 0, 1, 1, true), new TicketRow("conv1", 1, 1, 2, true));
        Write(new TicketRow("conv1", 0, 2, 1, true));
        Assert.Single(new CsvTable<TicketRow>(_folder.File("table.csv")).Read());
        Assert.Equal(["table.csv"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName));
    }

    [Fact]
    public void AFailedWriteLeavesTheOldFile()
    {
        Write(new TicketRow("conv1", 0, 1, 1, true));
        string before = Text();
        Assert.Throws<InvalidOperationException>(() => DurableFile.Write(_folder.File("table.csv"), stream =>
        {
            stream.WriteByte(1);
            throw new InvalidOperationException("the disk is full");
        }));
        Assert.Equal(before, Text());
        Assert.Equal(["table.csv"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName));
    }

    [Theory]
    [InlineData("layer,filter,norm,position,kept\nconv1,0,1,1,true\nconv1,zero,1,1,true\n", "line 3", "column filter", "zero")]
    [InlineData("layer,filter,norm,position,kept\nconv1,0,1,1,maybe\n", "line 2", "column kept", "maybe")]
    [InlineData("layer,filter,norm,position,kept\nconv1,0,1\n", "line 2", "", "")]
    [InlineData("layer,filter,norm,position,kept\nconv1,0,1,1,t\0rue\n", "line 2", "column kept", @"t\x00rue")]
    [InlineData("layer,filter,norm,position,kept\nconv1,99999999999,1,1,true\n", "line 2", "column filter", "")]
    [InlineData("layer,filter,norm,position,kept\n\"conv1,0,1,1,true\n", "line 2", "", "")]
    [InlineData("layer,filter,norm,position,kept,layer\nconv1,0,1,1,true,conv2\n", "header", "column layer more than once", "")]
    [InlineData("layer,filter,norm,kept\nconv1,0,1,true\n", "header", "position", "")]
    [InlineData("", "header", "layer,filter,norm,position,kept", "")]
    public void AWrongFileIsOneLineThatSaysWhere(string text, string line, string column, string value)
    {
        string path = _folder.File("ticket.csv");
        File.WriteAllText(path, text);
        UserError error = Assert.Throws<UserError>(() => new CsvTable<TicketRow>(path).Read());
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
        Assert.Contains(line, error.Message, StringComparison.Ordinal);
        Assert.Contains(column, error.Message, StringComparison.OrdinalIgnoreCase);
        Assert.Contains(value, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void WhatIsNoFileIsRefusedAtOnce()
    {
        string path = _folder.File("table.csv");
        System.Diagnostics.Process.Start("mkfifo", path).WaitForExit();
        Assert.Equal($"{path}: cannot be read: it is a pipe, not a regular file", Assert.Throws<UserError>(() => new CsvTable<TicketRow>(path).Read()).Message);
    }

    [Fact]
    public void ALineWithoutEndIsNotReadToItsEnd()
    {
        string path = _folder.File("table.csv");
        File.WriteAllText(path, $"layer,filter,norm,position,kept\n\"{new string('x', 30_000_000)}\n");
        UserError error = Assert.Throws<UserError>(() => new CsvTable<TicketRow>(path).Read());
        Assert.True(error.Message.Length < 1000, error.Message);
    }

    [Fact]
    public void AnUnknownEnumValueNamesWhatIsAllowed()
    {
        File.WriteAllText(_folder.File("table.csv"), "network,test_accuracy,test_loss,parameters,flops\nsparse,0,0,0,0\n");
        UserError error = Assert.Throws<UserError>(() => new CsvTable<SummaryRow>(_folder.File("table.csv")).Read());
        Assert.Contains("dense, pruned, ticket", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ColumnsOfALaterVersionArePassedOver()
    {
        File.WriteAllText(_folder.File("table.csv"), "layer,filter,norm,position,kept,rule\nconv1,0,1,1,true,l2\n");
        Assert.Equal([new TicketRow("conv1", 0, 1, 1, true)], new CsvTable<TicketRow>(_folder.File("table.csv")).Read());
    }

    [Fact]
    public void AppendingToATableOfOtherColumnsIsRefused()
    {
        File.WriteAllText(_folder.File("table.csv"), "layer,filter,norm,position,kept,rule\n");
        Assert.Throws<UserError>(() => new CsvTable<TicketRow>(_folder.File("table.csv")).Append(new TicketRow("conv1", 0, 1, 1, true)));
        Assert.Throws<UserError>(() => new CsvTable<TicketRow>(_folder.File("absent.csv")).Read());
    }

    private static string Header<T>() where T : class => string.Join(',', new CsvTable<T>("any.csv").Columns);

    private void Write<T>(params T[] rows) where T : class => new CsvTable<T>(_folder.File("table.csv")).Write(rows);

    private string Text() => File.ReadAllText(_folder.File("table.csv"));

    private void RoundTrip<T>(params T[] rows) where T : class
    {
        Write(rows);
        Assert.Equal(rows, new CsvTable<T>(_folder.File("table.csv")).Read());
    }
}
