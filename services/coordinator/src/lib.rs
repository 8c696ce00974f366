//! perito-coordinator
