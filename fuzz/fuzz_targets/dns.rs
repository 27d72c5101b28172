#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rovy_fuzz::dns(data));
