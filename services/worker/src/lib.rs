//! perito-worker
