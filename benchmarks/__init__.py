"""What is measured of this library: speed, bytes sent, and graceful updates of small worlds."""
