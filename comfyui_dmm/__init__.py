"""The door for ComfyUI: nodes, routes and the front end, over `dmm`."""
