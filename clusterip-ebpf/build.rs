//! Tells bpf-linker to let LLVM inline memset and memcpy: by default zeroing or copying a key becomes a byte loop, 120
//! instructions instead of 17, whose stack access by a variable offset needs `CAP_PERFMON` as well. And that packet and
//! map memory may be read in words at any offset, as the kernel lets programs do on the machines we support: by default
//! each address would be sixteen loads.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
        println!("cargo::rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
