"""The store: artifacts under names that follow from their inputs."""
