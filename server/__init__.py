"""The relay server: rooms, presence, and routing of signaling messages between peers."""
