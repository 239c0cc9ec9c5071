"""How predictions reach Label Studio: in the reply to a person who waits, or pushed later."""
