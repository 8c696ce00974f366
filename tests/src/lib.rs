//! perito-tests
