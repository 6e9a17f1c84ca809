"""What happens to softiou when processes are killed, disks fill and files lie; see __main__."""
