//! Makes the program begin in `src/early.rs`, where that has an entry for this processor.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    // A dynamic program is entered by the dynamic linker first: nothing would be won.
    let is_static = var("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if is_static && var("CARGO_CFG_TARGET_ARCH") == "x86_64" && var("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-cfg=early_entry");
        println!("cargo::rustc-link-arg-bins=-Wl,-e,sampan_start");
    }
    println!("cargo::rustc-check-cfg=cfg(early_entry)");
}
