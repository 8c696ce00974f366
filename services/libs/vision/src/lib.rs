//! perito-vision
