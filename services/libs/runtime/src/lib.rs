//! perito-runtime
