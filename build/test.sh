#!/usr/bin/env bash
# Builds and runs every test, or those whose full name holds $FILTER, and ends with the line
# "N passed, N failed, N skipped"; before it, which tests were skipped or failed, and why. Fails where tests fail, where the run ends early, and where no test ran.
set -uo pipefail
cd "$(dirname "$0")/.."

# The tests start some thousand ranks, each of which would compile the same code: here they find it compiled, which saves a seventh
# of their time. --remove-destination: what lies in the tests' folder are links into the package cache. -u: once is enough.
compiled=tests/LoftHpc.RankProgram/bin/compiled
flock -o . dotnet build LoftHpc.sln -c Release --nologo -v quiet &&
    flock -o . dotnet publish tests/LoftHpc.RankProgram -c Release --no-build -o "$compiled" --nologo -v quiet &&
    { [[ ! -d $compiled ]] || cp -u --remove-destination "$compiled"/*.dll tests/LoftHpc.Tests/bin/Release/net10.0/linux-x64/; } ||
    { echo "0 passed, 0 failed, 0 skipped"; exit 1; }

# Two test processes at a time: tests that wait, for Slurm, a limit or a launcher, and those that have one thread leave a core idle.
# Within a process one test follows the other, so that nothing which belongs to a process is shared: libtorch's state, collections of
# .NET beside a call of libtorch, live tensors. A group is the tests whose full name holds one of these texts, the last one all others;
# one that waits most of its time comes first, then the longest. With FILTER there is one group.
groups=(.Slurm. .Training. .Commands.R .Build. .Commands. .SelfTest. .Arithmetic. .Planning. .Mpi. '')
tests=tests/LoftHpc.Tests/bin/Release/net10.0/linux-x64/LoftHpc.Tests.dll
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
run_group() { # NUMBER FILTER: the output comes as a whole, when the group has ended
    local status
    # What runs in the background of a script is deaf to ^C.
    env --default-signal=INT dotnet test "$tests" --nologo --results-directory "$results/$1" --logger trx \
        --blame-hang-timeout 20m --blame-hang-dump-type none --filter "$2" >"$results/$1.log" 2>&1
    status=$?
    flock "$results" cat "$results/$1.log" 2>/dev/null
    ((status == 0)) || echo "$status" >>"$results/status"
}
if [[ -n ${FILTER:-} ]]; then
    run_group 0 "FullyQualifiedName~$FILTER"
else
    others=''
    for number in "${!groups[@]}"; do
        while (($(jobs -pr | wc -l) >= 2)); do wait -n; done
        filter=${groups[number]:+&FullyQualifiedName~${groups[number]}}$others
        run_group "$number" "${filter#&}" &
        others="&FullyQualifiedName!~${groups[number]}$others"
    done
    wait
fi
# The first that was not 0.
status=0
[[ ! -e $results/status ]] || read -r status <"$results/status"

# One line for each test that was skipped or failed, with the first line of its message; those that failed come last.
find "$results" -name '*.trx' -exec awk '
    /<UnitTestResult / {
        test = $0; sub(/.* testName="/, "", test); sub(/".*/, "", test)
        outcome = match($0, /outcome="NotExecuted"/) ? "skipped" : match($0, /outcome="Passed"/) ? "" : "failed"
    }
    outcome != "" && /<Message>/ { gsub(/.*<Message>|<\/Message>.*/, ""); print outcome ": " test ": " $0; outcome = "" }' {} + | sort -r

# Counts of all groups, from the result files: total="5" executed="4" passed="4" failed="0" ...
read -r passed failed skipped < <(
    find "$results" -name '*.trx' -exec grep -ho '<Counters [^>]*' {} + | awk '
        { for (i = 2; i <= NF; i++) { split($i, pair, "\""); sub("=", "", pair[1]); n[pair[1]] += pair[2] } }
        END {
            failed = n["failed"] + n["error"] + n["timeout"] + n["aborted"]
            print n["passed"] + 0, failed + 0, n["total"] - n["passed"] - failed
        }')
if ((status == 0 && passed == 0)); then
    echo "no test ran" >&2
    status=1
elif ((status != 0 && failed == 0)); then
    echo "the test run ended early (exit status $status)" >&2
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
