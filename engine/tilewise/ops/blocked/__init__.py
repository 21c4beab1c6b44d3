"""Operators in channel-blocked layout: the steps that they take where their inputs lie so (`ops/layout.py`)."""
