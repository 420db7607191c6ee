using System.Diagnostics;
using System.Globalization;

namespace LoftHpc.Benchmarks;

/// <summary>The same training in PyTorch (pytorch_training.py), which does so many steps as it is told, and then waits.</summary>
internal sealed class PyTorchProcess : IDisposable
{
    private readonly Process _process;
    private readonly string _script;

    /// <param name="python">A python3 with PyTorch.</param>
    /// <param name="device">cpu, cuda:0, ...</param>
    /// <param name="precision">float32, tf32 or bfloat16.</param>
    /// <exception cref="UserError">It does not start.</exception>
    public PyTorchProcess(string python, string script, string device, string precision, int threads, int width)
    {
        _script = script;
        // Its errors go where ours go.
        string[] arguments = [script, device, precision, threads.ToString(CultureInfo.InvariantCulture), width.ToString(CultureInfo.InvariantCulture)];
        try
        {
            _process = Process.Start(new ProcessStartInfo(python, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        }
        catch (System.ComponentModel.Win32Exception error)
        {
            throw new UserError($"{python} does not start: {error.Message}", error, ExitCodes.Environment);
        }
        Version = Answer();
    }

    /// <summary>Of PyTorch, and the name of its device.</summary>
    public string Version { get; }

    /// <summary>Does steps, and waits for the device.</summary>
    /// <param name="layout">contiguous or channels_last.</param>
    /// <returns>The loss of the last step.</returns>
    public double Steps(int batch, string layout, int count)
    {
        _process.StandardInput.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{batch} {layout} {count}"));
        _process.StandardInput.Flush();
        return double.Parse(Answer(), CultureInfo.InvariantCulture);
    }

    /// <summary>It ends where its input ends.</summary>
    public void Dispose()
    {
        _process.StandardInput.Close();
        if (!_process.WaitForExit(TimeSpan.FromSeconds(10))) _process.Kill();
        _process.Dispose();
    }

    private string Answer() => _process.StandardOutput.ReadLine()
        ?? throw new UserError($"{_script} has ended; its error stands above", ExitCodes.Environment);
}
