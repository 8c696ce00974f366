//! perito-database
