"""A model judged on images with known objects, and the page that says how it did."""
