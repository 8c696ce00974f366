//! perito-objects
