"""Where in a sound a network looks: class activation maps, gradients, LRP, LIME and occlusion."""
