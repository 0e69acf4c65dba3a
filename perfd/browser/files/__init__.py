"""What a page load leaves besides its record: the HAR, pictures, the filmstrip; made by a child process."""
