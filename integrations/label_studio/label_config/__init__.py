"""What a label config asks: its controls, their images, choices and conditions."""
