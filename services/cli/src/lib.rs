//! perito-cli
