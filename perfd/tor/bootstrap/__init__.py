"""Tors that are launched anew for one measurement, and watched from their first moment on."""
