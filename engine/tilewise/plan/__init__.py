"""From a graph with known input shapes to a flat list of steps and one arena."""
