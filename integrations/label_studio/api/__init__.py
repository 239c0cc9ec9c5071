"""Speaking to Label Studio: connection, credentials, tasks and media."""
