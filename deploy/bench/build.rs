//! Hands the linker what `perito-nets` says about libtorch, so that the benches run without LD_LIBRARY_PATH.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(link_arg) = std::env::var("DEP_PERITO_NETS_LINK_ARG") {
        println!("cargo::rustc-link-arg={link_arg}");
    }
}
