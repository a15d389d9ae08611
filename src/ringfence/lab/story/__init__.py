"""The demo's acts: each says what it does, does it to real hosts, and claims what was seen to hold."""
