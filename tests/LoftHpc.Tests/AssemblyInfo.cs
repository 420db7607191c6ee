using Xunit;

// Within a process one test follows the other: tests compute with libtorch, and a collection that another thread's test begins beside a
// call of libtorch frees scalars which the call is given (Directory.Build.props); live tensors are counted, too. build/test.sh runs two
// processes of tests side by side.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
