using Xunit;

// Jobs of several ranks fill the cores; side by side they would slow each other down, and those that must end within a
// time would fail for it.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
