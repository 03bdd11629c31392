"""What every room stands on: parameters, verified files, errors, the frame of a stage; reaches no room."""
