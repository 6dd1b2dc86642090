//! Makes calls when it is told to: `clusterip_tests::Caller` starts it.
#![expect(unused_crate_dependencies, reason = "they are the library's")]

fn main() -> std::io::Result<()> {
    clusterip_tests::caller::serve(std::io::stdin().lock(), std::io::stdout().lock())
}
