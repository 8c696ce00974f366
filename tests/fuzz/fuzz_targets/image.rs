//! Photographs, from libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(init: perito_fuzz::let_code_catch_panics(), |bytes: &[u8]| {
    perito_fuzz::image(bytes);
});
