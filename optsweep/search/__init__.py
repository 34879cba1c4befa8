"""Searches: Optuna studies that several processes share. It knows neither Hydra nor torch."""
