"""`python -m cli` is `folio`: the form that torchrun, deepspeed and srun start."""

from cli.main import main

main()
