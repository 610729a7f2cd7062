"""Copies: which training picture a picture resembles most, and from where on it is a copy.

    index = PictureIndex.of(blocks)                      # the training pictures, uint8 [n, 3, H, W] a block
    alarm = calibrate(index, held_out, training, seed)   # from pictures that cannot be copies, and planted copies
    num = count_copies(samples, index, alarm)            # samples: uint8 [Q, 3, H, W] of any size

Everything here is arithmetic on tensors: it knows no model, file or caption.
"""
