//! perito-broker
