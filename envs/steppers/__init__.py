"""Time integration: reference steppers and fused kernels."""
