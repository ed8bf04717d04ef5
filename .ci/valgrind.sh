#!/bin/sh
# Runs under valgrind what reaches code that the compiler does not check: mapped files of weights, whole and damaged, matrices shared out
# among threads (not the instructions that valgrind does not know), and the element in pipelines that start, stop, seek and change caps.
#
#     .ci/tools.sh .ci/valgrind.sh
#
# A use of memory that is not there, or has not been written, ends it with exit status 9. In the tests without GStreamer so does a leak;
# GStreamer keeps its types and plugins to the end on purpose. The tests are those of `make test`, some forty times slower.
set -eu
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')

# Runs `cargo test` with the arguments that follow, each test under valgrind with the options in $1.
checked() {
    options=$1
    shift
    env "CARGO_TARGET_${host}_RUNNER=valgrind --quiet --error-exitcode=9 $options" cargo test --locked --workspace "$@"
}

cargo test --locked --workspace --no-run
leaks='--leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite'
checked "$leaks" --test hostile
checked --leak-check=no --lib --bin acdclip unsafe_
checked --leak-check=no --test live -- --test-threads 1 it_bears
