using LoftHpc.SelfTest;

namespace LoftHpc.RankProgram;

/// <summary>Assertions of scenarios: what fails throws, and ends the job.</summary>
internal static class Check
{
    public static void True(bool condition, string what)
    {
        if (!condition) throw new InvalidOperationException($"wrong: {what}");
    }

    /// <summary>Fails with what the checks found on this rank.</summary>
    public static void Passed(Findings findings)
    {
        if (findings.Failed > 0) throw new InvalidOperationException($"{findings.Failed} of {findings.Checks} checks failed:\n{string.Join('\n', findings.Failures)}");
        if (findings.Checks == 0) throw new InvalidOperationException("nothing was checked");
    }

    public static void Equal<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual, string what) where T : IEquatable<T>
    {
        if (expected.SequenceEqual(actual)) return;
        throw new InvalidOperationException(
            $"{what}: expected [{string.Join(", ", expected.ToArray())}], got [{string.Join(", ", actual.ToArray())}]");
    }

    /// <summary>Runs the action, which must throw <typeparamref name="T"/>, and returns the exception.</summary>
    public static T Throws<T>(Action action, string what) where T : Exception
    {
        try
        {
            action();
        }
        catch (T error)
        {
            return error;
        }
        throw new InvalidOperationException($"{what}: no {typeof(T).Name}");
    }
}
