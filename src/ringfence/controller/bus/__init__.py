"""The controller's end of the bus: the server it runs, who may enter, what is heard."""
