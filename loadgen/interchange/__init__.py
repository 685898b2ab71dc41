"""Other tools' histories, read and written: Elle's operation maps (EDN, JSON) and plain text; and our own streams."""
