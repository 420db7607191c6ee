using Xunit;

namespace LoftHpc.Tests.Build;

/// <summary>build/soak.sh with a stand-in for the program: what it is content with, and what it finds.</summary>
public sealed class SoakScriptTests : IDisposable
{
    private readonly StubFolder _programs = new();

    public void Dispose() => _programs.Dispose();

    [Theory]
    [InlineData("", 0, "5 kills in [1-5] runs of 1 kinds in [0-9]+ s: every run ended with the bytes of an unbroken one, and left no file over")]
    [InlineData("echo $launches > ticket.safetensors", 1, "dense: .*/ticket.safetensors differs from ")]
    [InlineData("echo $launches,2 >> metrics.csv", 1, "dense: .*/metrics.csv differs from ")]
    [InlineData("((launches == 0)) || touch accuracy.png.part", 1, "dense: other files than of an unbroken run ")]
    [InlineData("((launches == 0)) || exit 3", 1, "dense: run [1-5] ends with code 3 though nothing was done to it|dense: run [1-5] does not end: code 3")]
    public void What_a_killed_run_leaves_is_looked_at(string fault, int exitCode, string says)
    {
        // What may differ: times, and the record of launches.
        _programs.Add("lofthpc", $$"""
            for word; do [[ $word == run.folder=* ]] && folder=${word#*=}/run; done
            mkdir -p $folder && cd $folder
            launches=$(cat manifest.json 2>/dev/null | wc -l)
            echo launch >> manifest.json
            sleep 0.2
            printf 'step,seconds\n1,%s\n' $RANDOM > metrics.csv
            echo weights > ticket.safetensors
            {{fault}}
            """);
        (int status, string output, string error) = Repository.Run(
            Repository.File("build", "soak.sh"), ["5", "1", "dense"],
            new Dictionary<string, string?> { ["LOFTHPC_PROGRAM"] = Path.Combine(_programs.Path, "lofthpc"), ["TMPDIR"] = _programs.Path });
        Assert.True(status == exitCode, output + error);
        Assert.Matches(says, output + error);
    }
}
