//! Weight files, from libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    perito_fuzz::weights(bytes);
});
