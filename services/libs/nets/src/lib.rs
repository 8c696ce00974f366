//! perito-nets
