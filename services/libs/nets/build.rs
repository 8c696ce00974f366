//! Tells the linker where libtorch lies, so that binaries find it at run time without LD_LIBRARY_PATH.
//!
//! `rustc-link-arg` reaches the binaries and tests of its own package only. The argument is therefore also
//! published as this package's metadata: a package with binaries that use nets has a build script of one line
//! that hands `DEP_PERITO_NETS_LINK_ARG` on to its own linker.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // From torch-sys, which knows how LIBTORCH was found.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo::error=torch-sys did not say where libtorch is: run `make setup` or set LIBTORCH");
        return;
    };
    println!("cargo::rustc-check-cfg=cfg(libtorch_cuda)");
    let mut link_arg = format!("-Wl,-rpath,{lib}");
    if Path::new(&lib).join("libtorch_cuda.so").exists() {
        // No symbol of libtorch_cuda is named by our code: it registers itself when loaded. A linker that drops
        // libraries which look unused would silently leave a build without CUDA.
        println!("cargo::rustc-cfg=libtorch_cuda");
        link_arg.push_str(",--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
    println!("cargo::rustc-link-arg={link_arg}");
    println!("cargo::metadata=link_arg={link_arg}");
    println!("cargo::rustc-env=PERITO_LIBTORCH_VERSION={}", version(&lib).as_deref().unwrap_or("unknown"));
}

/// The version in libtorch's own header: it becomes part of each model's lineage.
fn version(lib: &str) -> Option<String> {
    let header = Path::new(lib).join("../include/torch/headeronly/version.h");
    println!("cargo::rerun-if-changed={}", header.display());
    let text = std::fs::read_to_string(header).ok()?;
    let number = |part: &str| {
        let define = format!("#define TORCH_VERSION_{part} ");
        text.lines().find_map(|line| line.strip_prefix(define.as_str()).map(|number| number.trim().to_owned()))
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}
